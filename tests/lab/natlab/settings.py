"""Every name, address, figure and deadline that more than one file of the lab needs."""

DOMAIN = "provider.example"
NAMESPACE_PREFIX = "siplab"

# What siplatch calls things. If one of these is renamed, this is the only place to follow.
METRICS_LISTEN = ("127.0.0.1", 9090)
METRICS_PATH = "/metrics"
HEALTH_PATH = "/healthz"
METRIC_PORTS_FREE = "siplatch_ports_free"
METRIC_PORTS_TOTAL = "siplatch_ports_total"
RUN_ARGUMENTS = ["run", "--config", "{config}"]
RUN_WITHOUT_CONFIG = ["run"]
STATUS_ARGUMENTS = ["status", "--config", "{config}"]
STATE_DIR_VARIABLE = "SIPLATCH__STATE__DIR"

# The verdict.
REQUIRED_SHARE = 0.97
WINDOW_S = 0.1
START_ALLOWANCE_S = 0.3
TONE_SHARE_OF_ENERGY = 0.6
TONE_MIN_RMS = 300.0
MAX_ECHO_SHARE = 0.02

# Lengths of what is waited through on purpose, in seconds.
CALL_S = 10.0
TALK_BEFORE_HOLD_S = 4.0
GAP_S = 1.0
HOLD_S = 90.0
IDLE_S = 300.0
UDP_TIMEOUT_S = 30
SILENCE_MARGIN_S = 3

# Deadlines of what is waited for, in seconds.
START_DEADLINE_S = 15.0
REGISTER_DEADLINE_S = 15.0
ANSWER_DEADLINE_S = 10.0
SILENCE_DEADLINE_S = 90.0
BYE_DEADLINE_S = 5.0
PORTS_BACK_DEADLINE_S = 45.0

# Audio files are as long as the longest time a phone may talk, plus some.
TONE_FILE_S = 150
SAMPLE_RATE = 8000
