use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nat::Side;
use registry::{Binding, BindingId, Call, CallKind, CallState, Party, PassId, Said};
use wire::{Flow, ListenerId, Transport};

use super::line::Stamp;
use super::*;
use crate::config::{Machine, Sources, load};
use crate::metrics::Metrics;

const BOOT: &str = "this-boot";

fn places() -> Vec<Place> {
    let at = |side, port| Place { side, transport: Transport::Udp, bind: ([127, 0, 0, 1], port).into() };
    vec![at(Side::Inner, 5060), at(Side::Outer, 5070)]
}

fn flow(listener: u16) -> Flow {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    Flow { transport: Transport::Udp, listener: ListenerId(listener), connection: 0, local: at(5060), remote: at(4000) }
}

fn binding(id: u64, expires: Instant) -> Record {
    Record::Binding(Arc::new(Binding {
        id: BindingId(id),
        texts: Said {
            aor: format!("user{id}@example.com").as_bytes(),
            contact: format!("sip:user{id}@192.168.1.10:5060;ob").as_bytes(),
            call_id: &[0xff, 0, b'\n', b'"', b'\\', 0x80],
            user_agent: b"A phone/1.0",
            lines: b"",
        }
        .into(),
        instance: Some(b"\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\""[..].into()),
        reg_id: None,
        cseq: 1,
        flow: flow(1).into(),
        flow_id: registry::FlowId(1),
        upstream: Some(Arc::new(flow(0))),
        natted: true,
        phone: None,
        q: 1000,
        expires,
        until: expires,
        confirmed: registry::Confirmed::default(),
        answered: false,
        missed: 0,
    }))
}

fn call(id: u64, state: CallState, now: Instant) -> Call {
    let party = |tag: &str, listener| Party {
        tag: tag.as_bytes().into(),
        identity: format!("\"A\" <sip:{tag}@example.com>;tag={tag}").into_bytes().into(),
        contact: format!("sip:{tag}@192.168.1.10:5060").into_bytes().into(),
        route: vec![b"<sip:10.0.0.5;lr>".to_vec()],
        flow: flow(listener).into(),
        binding: None,
        cseq: 1,
        state,
        branch: 0,
        raised: [0; 2],
        session: Box::default(),
    };
    Call {
        id: PassId(id),
        kind: CallKind::Invite,
        state,
        call_id: format!("call-{id}@192.168.1.10").into_bytes().into(),
        caller: party("alice", 1),
        callees: vec![party("bob", 0)],
        onward: flow(0).into(),
        streams: Arc::default(),
        since: now,
        answered: Some(now),
        expires: Some(now + Duration::from_secs(1800)),
        phone: None,
    }
}

fn call_record(id: u64, state: CallState, now: Instant) -> Record {
    Record::Call(Arc::new(call(id, state, now)))
}

struct Bench {
    dir: PathBuf,
    log: Log,
    fold: Fold,
    now: Instant,
}

impl Bench {
    fn new(name: &str) -> Self {
        let dir = dir(name);
        Self { log: Log::new(dir.join("snapshot")), fold: Fold::new(BOOT, places()), dir, now: net::clock::now() }
    }

    fn put(&mut self, record: Record) -> u64 {
        self.fold.change(record.key(), Some(record).filter(snapshot::outlives));
        self.write()
    }

    fn delete(&mut self, key: Key) -> u64 {
        self.fold.change(key, None);
        self.write()
    }

    fn write(&mut self) -> u64 {
        self.fold.write(self.now, Stamp::now(), &mut self.log).unwrap()
    }

    fn load(&self) -> Restored {
        super::load::load(self.log.path(), BOOT, self.now, &places()).unwrap()
    }

    fn keys(&self) -> Vec<Key> {
        self.load().records.iter().map(Record::key).collect()
    }

    fn octets(&self) -> Vec<u8> {
        fs::read(self.log.path()).unwrap()
    }

    fn damage(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut octets = self.octets();
        change(&mut octets);
        fs::write(self.log.path(), octets).unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("siplatch-store-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn key(id: u64) -> Key {
    Key::Binding(BindingId(id))
}

fn later(bench: &Bench) -> Instant {
    bench.now + Duration::from_secs(600)
}

#[test]
fn what_is_written_is_read_again() {
    let mut bench = Bench::new("round");
    for id in 1..=3 {
        bench.put(binding(id, later(&bench)));
    }
    let now = bench.now;
    bench.put(call_record(1, CallState::Confirmed, now));
    bench.put(call_record(2, CallState::Early, now));
    bench.delete(key(2));
    let restored = bench.load();
    assert_eq!(restored.counts(), (2, 1));
    assert_eq!(restored.lost, []);
    assert!(restored.age < Duration::from_secs(10));
    assert_eq!(bench.keys(), [key(1), key(3), Key::Call(PassId(1))]);
    let expected = binding(1, later(&bench));
    let (Record::Binding(found), Record::Binding(mut expected)) = (restored.records[0].clone(), expected) else {
        panic!()
    };
    let off = expected.expires.saturating_duration_since(found.expires);
    assert!(off < Duration::from_secs(10), "{off:?}");
    let own = Arc::make_mut(&mut expected);
    (own.expires, own.until) = (found.expires, found.until);
    assert_eq!(found, expected);
}

#[test]
fn a_refresh_is_a_short_line() {
    let mut bench = Bench::new("refresh");
    let expires = later(&bench);
    let whole = bench.put(binding(1, expires));
    let refreshed = |cseq, seconds| {
        let Record::Binding(mut binding) = binding(1, expires + Duration::from_secs(seconds)) else { panic!() };
        Arc::make_mut(&mut binding).cseq = cseq;
        Record::Binding(binding)
    };
    for cseq in 2..5 {
        let refresh = bench.put(refreshed(cseq, 300));
        assert!(refresh < 240 && refresh < whole / 2, "{refresh} of {whole} octets");
    }
    let Record::Binding(found) = bench.load().records.remove(0) else { panic!() };
    assert_eq!(found.cseq, 4);
    assert!(found.expires > expires + Duration::from_secs(290));
    // What a refresh is to is not in the file: what is new, what had no place, what is gone.
    bench.fold.change(key(2), Some(binding(2, expires)));
    bench.fold.change(key(2), Some(binding(2, expires + Duration::from_secs(1))));
    bench.delete(key(1));
    assert_eq!(bench.keys(), [key(2)]);
    let places = std::mem::take(&mut bench.fold.places);
    assert_eq!(bench.put(binding(3, expires)), 0);
    bench.fold.places = places;
    bench.put(binding(3, expires + Duration::from_secs(1)));
    assert_eq!(bench.keys(), [key(2), key(3)]);
}

#[test]
fn a_torn_tail_costs_the_last_line_only() {
    let mut bench = Bench::new("torn");
    let lengths: Vec<u64> = (1..=3).map(|id| bench.put(binding(id, later(&bench)))).collect();
    let whole = bench.octets();
    for cut in [1, 2, 17, 18, 100, lengths[2] as usize - 1] {
        fs::write(bench.log.path(), &whole[..whole.len() - cut]).unwrap();
        let restored = bench.load();
        assert_eq!(restored.records.len(), if cut == 1 { 3 } else { 2 }, "{cut}");
        assert_eq!(restored.lost.len(), usize::from(cut != 1), "{cut}");
    }
    fs::write(bench.log.path(), &whole[..whole.len() - lengths[2] as usize]).unwrap();
    assert_eq!(bench.load().lost, []);
}

#[test]
fn a_damaged_line_costs_that_line_only() {
    let mut bench = Bench::new("damaged");
    for id in 1..=3 {
        bench.put(binding(id, later(&bench)));
    }
    let whole = bench.octets();
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    for at in (ends[1] + 1..ends[2]).step_by(3) {
        for octet in [0, b'\n', b'z'] {
            fs::write(bench.log.path(), &whole).unwrap();
            bench.damage(|octets| octets[at] = octet);
            let restored = bench.load();
            let keys: Vec<Key> = restored.records.iter().map(Record::key).collect();
            let unharmed = octet == whole[at];
            assert_eq!(keys.len(), if unharmed { 3 } else { 2 }, "{at}");
            assert!(unharmed || keys == [key(1), key(3)] && restored.lost.contains(&snapshot::Lost::Damaged), "{at}");
        }
    }
}

#[test]
fn another_format_is_an_error_and_not_a_guess() {
    let mut bench = Bench::new("format");
    bench.put(binding(1, later(&bench)));
    for text in [&b"siplatch snapshot 3 x\n"[..], b"", b"\n\n", &[0xff; 64]] {
        bench.damage(|octets| *octets = text.to_vec());
        let read = super::load::load(bench.log.path(), BOOT, bench.now, &places());
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    fs::remove_file(bench.log.path()).unwrap();
    assert_eq!(bench.load().records, []);
}

#[test]
fn what_does_not_matter_is_not_written() {
    let mut bench = Bench::new("quiet");
    let (now, expires) = (bench.now, later(&bench));
    bench.put(binding(1, expires));
    let written = |bench: &mut Bench, record| bench.put(record);
    let Record::Binding(mut pinged) = binding(1, expires) else { panic!() };
    Arc::make_mut(&mut pinged).missed = 2;
    assert_eq!(written(&mut bench, Record::Binding(pinged)), 0, "a ping without an answer");
    for step in 0..20 {
        let mut early = call(7, CallState::Early, now);
        early.caller.cseq = step;
        assert_eq!(written(&mut bench, Record::Call(Arc::new(early))), 0, "a call that is not answered");
    }
    let answered = call(7, CallState::Confirmed, now);
    let first = written(&mut bench, Record::Call(Arc::new(answered.clone())));
    let media = Call { streams: [media::StreamId { worker: 0, slot: 0, generation: 1 }].into(), ..answered.clone() };
    assert_eq!(written(&mut bench, Record::Call(Arc::new(media))), 0, "media");
    let ending = Call { state: CallState::Ending, ..answered };
    assert_eq!(written(&mut bench, Record::Call(Arc::new(ending))), 0, "its end has begun");
    let last = bench.delete(Key::Call(PassId(7)));
    println!("a registration takes {} octets, a call {first} and {last}", bench.put(binding(9, expires)));
    assert!(first < 2048 && last < 128, "{first} and {last} octets for a call");
}

#[test]
fn a_file_that_has_grown_is_written_anew() {
    let mut bench = Bench::new("grown");
    for id in 0..50 {
        bench.put(binding(id, later(&bench)));
    }
    let live = bench.log.length();
    let mut most = 0;
    let mut writes = 0;
    for refresh in 0..4000 {
        let Record::Binding(mut other) = binding(refresh % 50, later(&bench)) else { panic!() };
        let user_agent = format!("A phone/{refresh}");
        Arc::make_mut(&mut other).texts = Said { user_agent: user_agent.as_bytes(), ..other.said() }.into();
        bench.put(Record::Binding(other));
        most = most.max(bench.log.length());
        writes += u64::from(bench.log.length() < 2 * live);
    }
    assert!(most < (1 << 20) + 2048, "{most} octets");
    assert!(writes > 0, "never written anew");
    assert_eq!(bench.load().counts(), (50, 0));
    assert_eq!(bench.octets().len() as u64, bench.log.length());
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let mut bench = Bench::new("later");
    bench.put(binding(1, later(&bench)));
    let dir = bench.dir.clone();
    // As after a failed cut: the file must be written anew, and that is refused, too.
    bench.log = Log::new(bench.log.path().to_owned());
    fs::create_dir(dir.join("snapshot.new")).unwrap();
    for id in 2..=3 {
        let record = binding(id, later(&bench));
        bench.fold.change(record.key(), Some(record).filter(snapshot::outlives));
        assert!(bench.fold.write(bench.now, Stamp::now(), &mut bench.log).is_err());
    }
    bench.fold.change(key(1), None);
    assert!(bench.fold.write(bench.now, Stamp::now(), &mut bench.log).is_err());
    assert_eq!(bench.keys(), [key(1)]);
    fs::remove_dir(dir.join("snapshot.new")).unwrap();
    bench.write();
    assert_eq!(bench.keys(), [key(2), key(3)]);
}

#[test]
fn names_of_what_is_gone_are_not_remembered_for_ever() {
    let mut bench = Bench::new("names");
    bench.put(binding(1, later(&bench)));
    let now = bench.now;
    for id in 0..70_000 {
        let record = call_record(id, CallState::Confirmed, now);
        bench.fold.change(record.key(), Some(record).filter(snapshot::outlives));
        bench.fold.change(Key::Call(PassId(id)), None);
        assert!(bench.fold.dirty.len() <= fold::FORGOTTEN + 1);
    }
    bench.write();
    assert_eq!(bench.keys(), [key(1)]);
    assert!(bench.log.length() < 2048, "written anew");
}

fn shared() -> Arc<Shared> {
    let text = "[inner]\nlisten = [\"udp:127.0.0.1:5060\"]\n".to_owned();
    let sources = Sources { file: Some(("a.toml".to_owned(), text)), ..Sources::default() };
    let machine = Machine { ipv6: false, processors: 1, state_dirs: Vec::new(), metrics_open: false };
    let settings = load(&sources, &machine).unwrap();
    let metrics = Metrics::new(settings.proxy.role).unwrap();
    Arc::new(Shared::new(settings, metrics))
}

/// A binding on the one listener of [`shared`].
fn inner(id: u64, expires: Instant) -> Binding {
    let Record::Binding(binding) = binding(id, expires) else { panic!() };
    Binding { flow: flow(0).into(), upstream: None, ..Arc::unwrap_or_clone(binding) }
}

fn drain(registry: &mut Registry, store: &mut Store, now: Instant) {
    while let Some(change) = registry.poll_change() {
        store.change(now, change);
    }
}

fn finish(store: Store, registry: &Registry, listeners: &[Listener]) {
    let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(store.finish(registry, listeners));
}

#[test]
fn a_second_process_finds_what_the_first_one_left() {
    let (dir, shared, now) = (dir("second"), shared(), net::clock::now());
    let mut registry = Registry::new();
    let mut listeners = shared.settings().proxy.listeners.clone();
    let (mut store, restored) = Store::open(&dir, &shared, now).unwrap();
    assert_eq!(restored.records, []);
    assert!(Store::open(&dir, &shared, now).unwrap_err().to_string().contains("another siplatch"));
    store.handle_timeout(now, &registry, &listeners);
    registry.bind(inner(1, now + Duration::from_secs(60)));
    registry.bind(inner(2, now + Duration::from_secs(60)));
    registry.unbind(BindingId(1));
    drain(&mut registry, &mut store, now);
    assert_eq!(store.poll_timeout(), Some(now + DELAY));
    store.handle_timeout(now, &registry, &listeners);
    assert_eq!(store.poll_timeout(), Some(now + DELAY), "not yet");
    // A listener of a later configuration, which the next process does not have.
    listeners.push(Listener { bind: ([127, 0, 0, 1], 5080).into(), ..listeners[0].clone() });
    registry.bind(Binding { flow: flow(2).into(), ..inner(3, now + Duration::from_secs(60)) });
    drain(&mut registry, &mut store, now);
    finish(store, &registry, &listeners);
    let mode = fs::metadata(dir.join("snapshot")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (store, restored) = Store::open(&dir, &shared, now).unwrap();
    assert_eq!(restored.records.iter().map(Record::key).collect::<Vec<_>>(), [key(2)]);
    assert_eq!(restored.lost, [snapshot::Lost::Listener]);
    assert_eq!(restored.summary().unwrap(), "1 registrations and 0 calls, 0 s old; 1 could not be");
    finish(store, &registry, &listeners);
    fs::remove_dir_all(dir).unwrap();
}

/// A store of which the test is the thread.
fn handed() -> (Store, mpsc::Receiver<Batch>, oneshot::Sender<()>) {
    let (batches, receiver) = mpsc::channel(1);
    let (ended, end) = oneshot::channel();
    let (gathered, keeper) = (Gathered::default(), Some((batches, end)));
    (Store { gathered, whole: false, due: None, since: None, keeper }, receiver, ended)
}

#[test]
fn a_call_is_handed_over_as_it_is_then() {
    let now = net::clock::now();
    let (mut store, mut receiver, _ended) = handed();
    let mut registry = Registry::new();
    for id in 1..=3 {
        registry.put_call(call(id, CallState::Early, now));
    }
    drain(&mut registry, &mut store, now);
    assert_eq!(store.poll_timeout(), None, "nothing of an early call is kept");
    for id in 1..=2 {
        registry.put_call(call(id, CallState::Confirmed, now));
        registry.put_call(call(id, CallState::Ending, now));
    }
    registry.remove_call(PassId(2));
    registry.remove_call(PassId(3));
    drain(&mut registry, &mut store, now);
    store.handle_timeout(now + DELAY, &registry, &[]);
    let record = |id| Some(call_record(id, CallState::Ending, now));
    let keys = [1, 2, 3].map(|id| Key::Call(PassId(id)));
    assert_eq!(receiver.try_recv().unwrap().changes, [(keys[0], record(1)), (keys[1], None), (keys[2], None)]);
}

#[test]
fn while_the_loop_lags_a_change_waits_for_a_second() {
    let start = net::clock::now();
    let (mut store, mut receiver, _ended) = handed();
    let mut registry = Registry::new();
    registry.put_call(call(1, CallState::Confirmed, start));
    drain(&mut registry, &mut store, start);
    let mut now = start;
    while receiver.try_recv().is_err() {
        now += Duration::from_millis(4);
        store.put_off(now);
        store.handle_timeout(now, &registry, &[]);
    }
    let waited = now - start;
    assert!(waited >= LAGGING && waited < LAGGING + DELAY, "{waited:?}");
    assert_eq!(store.poll_timeout(), None);
}

#[test]
fn very_many_changes_of_one_call_are_one() {
    let now = net::clock::now();
    let (mut store, mut receiver, _ended) = handed();
    let registry = Registry::new();
    for change in 0..3 * MOST as u64 {
        store.change(now, Change::Delete(Key::Call(PassId(change % 7))));
        assert!(store.gathered.calls.len() <= MOST);
    }
    assert!(!store.whole);
    for id in 0..=MOST as u64 {
        store.change(now, Change::Delete(Key::Call(PassId(id))));
        assert!(store.gathered.calls.len() <= MOST);
    }
    assert!(store.whole);
    store.handle_timeout(now + DELAY, &registry, &[]);
    assert!(receiver.try_recv().unwrap().whole);
}

#[test]
fn a_held_up_thread_costs_bounded_memory_and_no_record() {
    let now = net::clock::now();
    let (mut store, mut receiver, _ended) = handed();
    let mut registry = Registry::new();
    registry.bind(inner(1, now));
    drain(&mut registry, &mut store, now);
    store.handle_timeout(now + DELAY, &registry, &[]);
    for id in 0..3 * MOST as u64 {
        registry.bind(inner(id, now));
        registry.unbind(BindingId(id));
        drain(&mut registry, &mut store, now);
        assert!(store.gathered.bindings.len() <= MOST);
    }
    registry.bind(inner(5, now));
    drain(&mut registry, &mut store, now);
    store.handle_timeout(now + DELAY, &registry, &[]);
    assert_eq!(store.poll_timeout(), Some(now + DELAY + HELD_UP), "the first batch is not taken yet");
    let first = receiver.try_recv().unwrap();
    assert_eq!((first.whole, first.changes.len()), (false, 1));
    store.handle_timeout(now + DELAY + HELD_UP, &registry, &[]);
    let second = receiver.try_recv().unwrap();
    assert!(second.whole);
    assert_eq!(second.changes.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(5)]);
    assert_eq!(store.poll_timeout(), None);
}
