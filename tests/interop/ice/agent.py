"""A full ICE agent (aioice) for one stream, driven by lines of JSON on standard input; it answers each with one.

Debian's own Python runs it, because Debian's package is for that one."""

import asyncio
import json
import sys

import aioice
import aioice.ice


class Agent:
    def __init__(self, address, controls):
        # The phones of the tests have addresses that no interface lists.
        aioice.ice.get_host_addresses = lambda **_: [address]
        self.connection = aioice.Connection(ice_controlling=controls, components=1)

    async def gather(self):
        await self.connection.gather_candidates()
        default = self.connection.get_default_candidate(1)
        return {
            "ufrag": self.connection.local_username, "pwd": self.connection.local_password,
            "host": default.host, "port": default.port,
            "candidates": [candidate.to_sdp() for candidate in self.connection.local_candidates],
        }

    async def connect(self, ufrag, pwd, candidates, lite, patience_s):
        self.connection.remote_username, self.connection.remote_password = ufrag, pwd
        self.connection.remote_is_lite = lite
        for candidate in candidates:
            await self.connection.add_remote_candidate(aioice.Candidate.from_sdp(candidate))
        await self.connection.add_remote_candidate(None)
        try:
            await asyncio.wait_for(self.connection.connect(), patience_s)
        except (ConnectionError, asyncio.TimeoutError) as error:
            return {"connected": False, "why": repr(error)}
        return {"connected": True}

    async def send(self, packets):
        for packet in packets:
            await self.connection.send(bytes.fromhex(packet))
            await asyncio.sleep(0.005)
        return {}

    async def receive(self, count, patience_s):
        got = []

        async def all_of_them():
            while len(got) < count:
                got.append((await self.connection.recv()).hex())

        try:
            await asyncio.wait_for(all_of_them(), patience_s)
        except (ConnectionError, asyncio.TimeoutError):
            pass
        return {"packets": got}


async def main():
    loop = asyncio.get_running_loop()
    agent = Agent(sys.argv[1], sys.argv[2] == "controls")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        print(json.dumps(await getattr(agent, order.pop("do"))(**order)), flush=True)
    await agent.connection.close()


asyncio.run(main())
