// A phone of JsSIP without a browser: what is asked of it comes in by lines of JSON, what happens goes out so.
//
// A real WebSocket carries the SIP of JsSIP. Media is not what this is about: the RTCPeerConnection is a stand-in that
// writes the SDP of a browser and takes any answer.
'use strict';

const { folder, authority, url, uri, password, host } = JSON.parse(process.argv[2]);
const path = require('path');
const fs = require('fs');
const { createRequire } = require('module');
const load = createRequire(path.join(folder, 'package.json'));
const WebSocket = load('ws');

const tell = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);

let port = 40000;

class PeerConnection {
	constructor() {
		this.port = port++;
		this.version = 1;
		this.signalingState = 'stable';
		this.iceGatheringState = 'complete';
		this.iceConnectionState = 'connected';
		this.localDescription = null;
		this.remoteDescription = null;
		this.listeners = {};
		this.tracks = [];
	}

	addEventListener(name, listener) {
		(this.listeners[name] ??= []).push(listener);
	}

	removeEventListener(name, listener) {
		this.listeners[name] = (this.listeners[name] ?? []).filter(one => one !== listener);
	}

	addTrack(track) {
		this.tracks.push(track);
	}

	getSenders() {
		return this.tracks.map(track => ({ track }));
	}

	write(type, setup) {
		const sdp = [
			'v=0', `o=- 7001 ${this.version++} IN IP4 127.0.0.1`, 's=-', 't=0 0', 'a=group:BUNDLE 0',
			`m=audio ${this.port} UDP/TLS/RTP/SAVPF 0 8 101`, `c=IN IP4 ${host}`, `a=rtcp:${this.port} IN IP4 ${host}`,
			`a=candidate:1 1 udp 2130706431 ${host} ${this.port} typ host`, 'a=ice-ufrag:Dz1j', 'a=ice-pwd:3YhsMKIVzEKuXzvzKkiWpG7b',
			'a=fingerprint:sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF',
			`a=setup:${setup}`, 'a=mid:0', 'a=sendrecv', 'a=rtcp-mux', 'a=rtpmap:0 PCMU/8000', 'a=rtpmap:8 PCMA/8000',
			'a=rtpmap:101 telephone-event/8000', '',
		].join('\r\n');
		return Promise.resolve({ type, sdp });
	}

	createOffer() {
		return this.write('offer', 'actpass');
	}

	createAnswer() {
		return this.write('answer', 'active');
	}

	setLocalDescription(description) {
		this.localDescription = { ...description };
		this.signalingState = description.type === 'offer' ? 'have-local-offer' : 'stable';
		return Promise.resolve();
	}

	setRemoteDescription(description) {
		this.remoteDescription = description;
		this.signalingState = description.type === 'offer' ? 'have-remote-offer' : 'stable';
		return Promise.resolve();
	}

	getStats() {
		return Promise.resolve(new Map());
	}

	close() {
		this.signalingState = 'closed';
	}
}

globalThis.window = globalThis;
globalThis.RTCPeerConnection = PeerConnection;
globalThis.RTCSessionDescription = class {
	constructor(description) {
		Object.assign(this, description);
	}
};
const stream = { getTracks: () => [{ kind: 'audio', enabled: true }], getAudioTracks: () => [], getVideoTracks: () => [] };

// Standard output is for events.
console.log = console.info = console.debug = console.error;

const JsSIP = load('jssip');

// What JsSIP calls a socket (its WebSocketInterface is the one of browsers).
class Socket {
	constructor() {
		this.url = url;
		this.via_transport = new URL(url).protocol.slice(0, -1);
		this.sip_uri = `sip:${new URL(url).host};transport=ws`;
	}

	connect() {
		if (this.socket) {
			return this.onconnect();
		}
		const ca = url.startsWith('wss:') ? fs.readFileSync(authority) : undefined;
		this.socket = new WebSocket(url, 'sip', { ca });
		this.socket.on('open', () => this.onconnect());
		this.socket.on('message', data => this.ondata(data.toString()));
		this.socket.on('close', (code, reason) => {
			tell('disconnected', { code });
			this.ondisconnect(code !== 1000, code, reason.toString());
		});
		this.socket.on('error', error => tell('error', { why: String(error) }));
	}

	disconnect() {
		this.socket?.close(1000);
		this.socket = null;
	}

	send(message) {
		this.socket.send(message.toString());
		return true;
	}

	isConnected() {
		return this.socket?.readyState === WebSocket.OPEN;
	}

	isConnecting() {
		return this.socket?.readyState === WebSocket.CONNECTING;
	}
}

const socket = new Socket();
const agent = new JsSIP.UA({ sockets: [socket], uri, password, register: true, register_expires: 600, session_timers: false });
const options = { mediaConstraints: { audio: true, video: false }, mediaStream: stream, pcConfig: {} };
// Calls in the order in which they began.
const calls = [];

agent.on('registered', () => tell('registered'));
agent.on('registrationFailed', ({ cause }) => tell('refused', { cause }));
agent.on('newMessage', ({ originator, request }) => originator === 'remote' && tell('message', { body: request.body }));
agent.on('newRTCSession', ({ session }) => {
	calls.push(session);
	follow(session);
	if (session.direction === 'incoming') {
		session.answer(options);
	}
});

function follow(session) {
	session.on('confirmed', () => tell('confirmed'));
	session.on('ended', () => tell('ended'));
	session.on('failed', ({ cause }) => tell('failed', { cause }));
	session.on('hold', ({ originator }) => tell('hold', { originator }));
	session.on('unhold', ({ originator }) => tell('unhold', { originator }));
	session.on('refer', ({ accept }) => {
		tell('refer');
		accept(() => {}, options);
	});
	session.on('replaces', ({ accept }) => {
		tell('replaces');
		accept(() => {});
	});
}

// JsSIP offers nothing new before the last offer has been acknowledged.
const patiently = step => step() || setTimeout(() => patiently(step), 20);

const orders = {
	call: ({ to }) => agent.call(to, options),
	hold: ({ call }) => patiently(() => calls[call].hold()),
	unhold: ({ call }) => patiently(() => calls[call].unhold()),
	end: ({ call }) => calls[call].terminate(),
	message: ({ to, body }) => agent.sendMessage(to, body, {
		eventHandlers: { succeeded: () => tell('delivered'), failed: ({ cause }) => tell('undelivered', { cause }) },
	}),
	refer: ({ call, to, replaces }) => calls[call].refer(to, {
		replaces: replaces === undefined ? undefined : calls[replaces],
		eventHandlers: {
			accepted: () => tell('transferred'), failed: () => tell('untransferred'), requestFailed: () => tell('untransferred'),
		},
	}),
};

let rest = '';
process.stdin.setEncoding('utf8').on('data', chunk => {
	const lines = (rest + chunk).split('\n');
	rest = lines.pop();
	for (const order of lines.map(line => JSON.parse(line))) {
		orders[order.do](order);
	}
}).on('end', () => process.exit(0));

if (process.env.JSSIP_DEBUG) {
	JsSIP.debug.enable('JsSIP:*');
}
agent.start();
