//! One call through the running program leaves its line in `calls.jsonl`, with
//! figures that are those of the audio that passed.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

use std::path::Path;
use std::time::{Duration, Instant};

use peer::World;
use serde_json::Value;

/// Longer than a busy machine takes to write a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lines, once there are so many.
fn lines(path: &Path, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(Instant::now() < deadline, "{count} lines are not in {}: {text}", path.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_call_with_audio_is_written_down() {
    let world = World::border("info");
    let path = world.daemon.dir().join("state/calls.jsonl");
    let call = world.call();
    std::thread::sleep(Duration::from_secs(1));
    let audio = call.hang_up();
    assert!(audio.is_unharmed(), "{audio}");
    let written = lines(&path, 1);
    let line = &written[0];
    assert_eq!((&line["from"], &line["to"]), (&Value::from("alice"), &Value::from("bob")));
    assert_eq!((&line["ended_by"], &line["cause"]), (&Value::from("outer"), &Value::from("caller_bye")));
    assert!(line["duration_s"].as_f64().unwrap() >= 1.0, "{line}");
    for (end, side) in [("caller", "outer"), ("callee", "inner")] {
        let leg = &line["streams"][0][end];
        let figure = |key: &str| leg[key].as_f64().unwrap_or(f64::NAN);
        assert_eq!(leg["side"], side);
        assert!(figure("packets_in") >= 40.0 && figure("packets_out") >= 40.0, "{leg}");
        assert!(figure("lost") <= figure("expected") * 0.03 && figure("expected") <= figure("packets_in"), "{leg}");
        assert!(figure("mos") > 4.0 && figure("jitter_ms") < 20.0, "{leg}");
        assert!(leg["source"].as_str().is_some_and(|source| source.starts_with("127.")), "{leg}");
    }
    assert_eq!(world.daemon.figure("siplatch_media_mos_count", ""), 2.0);
    // Moved away, as logrotate does: the next call begins a new file.
    std::fs::rename(&path, path.with_extension("old")).unwrap();
    world.call().hang_up();
    assert_eq!(lines(&path, 1).len(), 1);
}
