//! The program `siplatch`: puts the rooms together. Reads the configuration,
//! opens what must be open, runs the signalling loop and shows what it does.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed"))]

mod admin;
mod banner;
mod cli;
mod config;
mod date;
mod doctor;
mod edge;
mod init;
mod log;
mod metrics;
mod plan;
mod record;
mod reload;
mod router;
mod run;
mod state;
mod store;
mod trace;
mod view;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use admin::control;
use cli::{Cli, Command, Overrides};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(flags) => run::run(&flags),
        Command::Check { file, overrides } => match cli::load(file.as_deref(), &overrides) {
            Ok(_settings) => {
                let name = file.map_or("the configuration".to_owned(), |file| file.display().to_string());
                print(&format!("{name}: no faults\n"))
            }
            Err(faults) => {
                print(&faults);
                ExitCode::FAILURE
            }
        },
        Command::Status { config, state_dir, json } => {
            let overrides = Overrides::of_status(state_dir);
            match cli::state_dirs(config.as_deref(), &overrides).and_then(|dirs| control::ask(&dirs)) {
                Ok(status) if json => match serde_json::to_string_pretty(&status) {
                    Ok(text) => print(&(text + "\n")),
                    Err(error) => complain(&format!("{error}\n")),
                },
                Ok(status) => print(&status.tables()),
                Err(why) => complain(&why),
            }
        }
        Command::Reload { config, state_dir } => {
            let overrides = Overrides::of_status(state_dir);
            let outcome = cli::state_dirs(config.as_deref(), &overrides).and_then(|dirs| {
                let file = config.as_deref().map(cli::named).transpose()?;
                control::reload_now(&dirs, file)
            });
            match outcome {
                Ok(outcome) if outcome.applied => print(&outcome.text),
                Ok(outcome) => complain(&outcome.text),
                Err(why) => complain(&why),
            }
        }
        Command::Trace(asked) => {
            let overrides = Overrides::of_status(asked.state_dir.clone());
            let watched = cli::state_dirs(asked.config.as_deref(), &overrides)
                .and_then(|dirs| control::connect(&dirs))
                .and_then(|stream| trace::trace(stream, &asked.target, asked.json, asked.until()));
            match watched {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => complain(&why),
            }
        }
        Command::Doctor(asked) => doctor::run(&asked),
        Command::Reflect { address, other, sip } => doctor::reflect(&address, other.as_deref(), sip),
        Command::Init(asked) => init::run(&asked),
        Command::Plan(asked) => plan::run(&asked),
        Command::Reference => print(&config::reference::page()),
        Command::MetricsDoc => print(&metrics::table::page()),
    }
}

/// Prints an answer; a reader that went away is no fault of ours.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

/// Prints why there is no answer.
fn complain(text: &str) -> ExitCode {
    note(text);
    ExitCode::FAILURE
}

/// Says something beside the answer.
fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
