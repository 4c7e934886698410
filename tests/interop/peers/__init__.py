"""Other people's SIP stacks as peers of siplatch, on the loopback interface of a network namespace."""
