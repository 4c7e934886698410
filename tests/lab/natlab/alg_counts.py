"""How often the doctor finds a SIP ALG: always where there is one, never where there is none."""

import concurrent.futures
import itertools

from . import networks, verdicts

AT_ONCE = 5
RUNS_WITH = 20
# In each of ten networks.
RUNS_WITHOUT = 10


def runs(kind):
    return RUNS_WITH if kind == networks.ALG else RUNS_WITHOUT


def play(scene):
    """One record for all runs: how many found one, none, or did not know."""
    wanted = "found" if scene.cell.nat == networks.ALG else "none"
    numbers = itertools.count(1)

    def once(_):
        return verdicts.ask(scene, "--quick", name=f"doctor-{next(numbers)}").get("alg")
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(once, range(runs(scene.cell.nat))))
    counts = {word: found.count(word) for word in ("found", "none", None)}
    problems = [] if counts[wanted] == len(found) else [f"of {len(found)} runs only {counts[wanted]} said {wanted}: {found}"]
    return [{"established": True, "runs": len(found), "found": counts["found"], "none": counts["none"],
             "unknown": counts[None], "problems": problems}]
