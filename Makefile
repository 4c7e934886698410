# The one task runner; continuous integration calls the same verbs. `make help` lists them.

.PHONY: help run demo build attack recover connections reinvite forks churn router test lint rfc mutants sim interop lab lab-nat fuzz bpf bench bench-peers tuned doc image deny

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

run: ## build and start standalone on port 5060, then say what to type into a phone
	cargo run --release --locked -p siplatch-daemon -- run

demo: build ## one call with audio through siplatch in a small NATed world, told in plain words (needs root)
	tests/lab/install
	tests/lab/run --demo

build: ## the binary: target/release/siplatch
	cargo build --release --locked -p siplatch-daemon

attack: build ## attacks while a call is up: on loopback, then across real NATs beside rtpengine, as a table (needs root)
	cargo test --release --locked -p siplatch-tests --test attack -- --nocapture
	tests/lab/install --rtpengine
	tests/lab/run --attack

recover: build ## calls whose NAT forgets or moves, 20 times each: how long nothing is heard (needs root)
	tests/lab/install --rtpengine
	tests/lab/run --recover

connections: ## 2,000 phones on TLS, all reachable beside 1,000 slow or half-open connections
	cargo test --release --locked -p siplatch-tests --test connections -- --nocapture

reinvite: ## every way to change a call's media, measured after each step, for each role over UDP and TLS
	cargo test --release --locked -p siplatch-tests --test reinvite -- --nocapture

forks: ## calls that ring at two ends with early media of both: the one that answers has the stream
	cargo test --release --locked -p siplatch-tests --test forks -- --nocapture

churn: ## 10,000 calls (SIPLATCH_CHURN) that end in every way: ports, transactions and memory come back
	cargo test --release --locked -p siplatch-tests --test churn -- --nocapture

router: ## the ports in a router: miniupnpd asked by PCP, NAT-PMP and UPnP, crashed, restarted and obstinate (needs root)
	tests/lab/install
	cargo test --locked -p siplatch-daemon --test router -- --nocapture

test: ## all that fits into fifteen minutes; says first what it installs
	tests/run

lint: ## format, clippy, rights, links, and shellcheck and cargo-deny where they are installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --quiet --locked --workspace --test rights --test docs
	tests/optional-lints

rfc: ## every behaviour that docs/rfc.md calls a must, with its tests, run for real, as a table
	cargo run --quiet --profile test --locked -p siplatch-tests --example rfc

mutants: ## SAMPLE (60) small faults put into proxy, drawn by SEED (1): tried, caught, survivors
	cargo mutants --version || cargo install --locked cargo-mutants
	tests/mutants/run --seed $${SEED:-1} --sample $${SAMPLE:-60}

sim: ## 5,000 seeds of the simulated world, on links with 5 % loss, copies, reordering and jitter
	SIPLATCH_SIM_WEATHER=$${SIPLATCH_SIM_WEATHER:-foul} SIPLATCH_SIM_SEEDS=$${SIPLATCH_SIM_SEEDS:-5000} cargo test --release --locked -p siplatch-tests --lib --test sim -- --nocapture

interop: build ## SIPp, Kamailio, baresip and JsSIP on both sides, over every transport, as a matrix
	tests/lab/install
	tests/interop/run

lab: build ## every lab cell behind real NATs, as a table (needs root)
	tests/lab/install
	tests/lab/run

lab-nat: build ## twelve types of network: the doctor's verdict, lifetimes, calls in each, as tables (needs root)
	tests/lab/install --rtpengine
	tests/lab/run --nat

fuzz: ## libFuzzer on every target for SIPLATCH_FUZZ_SECONDS (300) each; fuzz-uri for one (needs a C++ compiler)
	tests/fuzz/run

fuzz-%:
	tests/fuzz/run $*

bpf: ## the kernel's half of the relay (needs clang-14, llvm-14, libbpf-dev)
	crates/net/bpf/build

bench: ## instructions and allocations per step against their budgets (needs valgrind)
	cargo bench --locked -p siplatch-benches

bench-peers: ## siplatch beside Kamailio, rtpengine and bare forwarders, half an hour; options in PEERS (needs root)
	benches/peers/install
	cargo build --release --locked -p siplatch-bench-peers
	benches/peers/tune || { [ $$? = 69 ] && echo "bench-peers: measures the plain release build" && cargo build --release --locked -p siplatch-daemon; }
	mkdir -p target/bench-peers
	benches/peers/run --json target/bench-peers/results.json --svg target/bench-peers $(PEERS)

tuned: ## the binary optimised by a profile of itself under calls: target/tuned/siplatch (needs root)
	tests/lab/install
	benches/peers/tune

doc: ## documentation of the rooms
	cargo doc --workspace --no-deps --locked

image: ## container image siplatch:latest
	docker build -f deploy/docker/Dockerfile -t siplatch .

deny: ## licences, bans and sources of all dependencies
	cargo deny check bans licenses sources
