"""Every name, address, figure and deadline that more than one file of the lab needs."""

DOMAIN = "provider.example"
NAMESPACE_PREFIX = "siplab"

# What siplatch calls things. If one of these is renamed, this is the only place to follow.
METRICS_LISTEN = ("127.0.0.1", 9090)
METRICS_PATH = "/metrics"
HEALTH_PATH = "/healthz"
METRIC_PORTS_FREE = "siplatch_ports_free"
METRIC_PORTS_TOTAL = "siplatch_ports_total"
METRIC_MEDIA_DROPS = "siplatch_media_drops_total"
METRIC_TURN_ALLOCATIONS = "siplatch_turn_allocations"
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
REFRESH_S = 600
SILENCE_MARGIN_S = 3

# Deadlines of what is waited for, in seconds.
START_DEADLINE_S = 15.0
REGISTER_DEADLINE_S = 15.0
ANSWER_DEADLINE_S = 10.0
SILENCE_DEADLINE_S = 90.0
BYE_DEADLINE_S = 5.0
FORWARDS_DEADLINE_S = 60.0
PORTS_BACK_DEADLINE_S = 45.0

# The relay's ports, the smaller block in which a spray is all the denser, and one that a router is asked to forward.
MEDIA_PORTS = (30000, 30999)
ATTACKED_PORTS = (30000, 30099)
ASKED_PORTS = (30000, 30015)

# The attacks: packets per second, and when they begin, in seconds into the call or before what they aim at.
SPRAY_RATES = (1500, 10000)
FORGE_RATE = 500
SPOOF_RATE = 1500
REACHED_SHARE_OF_RATE = 0.95
ATTACK_AFTER_S = 1.0
ATTACK_AHEAD_S = 0.1
SHORT_HOLD_S = 3.0

# The recoveries.
REPETITIONS = 20
TALK_BEFORE_EVENT_S = 1.5
WATCH_AFTER_EVENT_S = 2.5
GAP_LIMIT_S = 1.0
WATCH_WHILE_TOLD_S = 12.0
TOLD_GAP_LIMIT_S = 6.0
TRY_EVERY_S = 1.0
FOUND_LIMIT_S = 35.0
FOUND_BY_PASSWORD_LIMIT_S = 10.0
REST_AFTER_FOUND_S = 6.0
BYE_AFTER_EVENT_S = 1.0
QUICK_REFRESH_S = 8
ADDRESS_KNOWN_DEADLINE_S = 60.0

# Audio files are as long as the longest time a phone may talk, plus some.
TONE_FILE_S = 150
SAMPLE_RATE = 8000
