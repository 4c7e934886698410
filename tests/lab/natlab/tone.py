"""Tones: write them to a file, and find the windows of a recording in which one is heard.

A window counts when the tone holds most of its energy (Goertzel's algorithm) and it is not silence.
"""

import array
import math
import pathlib
import struct
import time
import wave

from . import settings

WAV_HEADER_BYTES = 44
WINDOW_SAMPLES = int(settings.SAMPLE_RATE * settings.WINDOW_S)

FREQUENCY = {
    "office": 440, "office2": 620, "branch": 800, "public": 1000, "public2": 1250, "announcer": 1500,
    "office3": 530, "public3": 1120,
}


def samples(frequency, seconds, amplitude=8000):
    rate = settings.SAMPLE_RATE
    # All tones are multiples of 10 Hz, so 0.1 s is a whole number of periods and can be repeated.
    period = array.array("h", (
        int(amplitude * math.sin(2 * math.pi * frequency * n / rate)) for n in range(rate // 10)
    ))
    return period * int(seconds * 10)


def write(path, frequency, seconds=settings.TONE_FILE_S):
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(settings.SAMPLE_RATE)
        out.writeframes(samples(frequency, seconds).tobytes())


def windows_heard(recording, frequency):
    """In how many whole windows of `recording` (an array of samples) the tone is there."""
    count = 0
    for start in range(0, len(recording) - WINDOW_SAMPLES + 1, WINDOW_SAMPLES):
        if _present(recording[start:start + WINDOW_SAMPLES], frequency):
            count += 1
    return count


def _present(window, frequency):
    size = len(window)
    energy = sum(sample * sample for sample in window)
    if energy < size * settings.TONE_MIN_RMS ** 2:
        return False
    coefficient = 2 * math.cos(2 * math.pi * frequency / settings.SAMPLE_RATE)
    before, last = 0.0, 0.0
    for sample in window:
        before, last = last, sample + coefficient * last - before
    power = before * before + last * last - coefficient * before * last
    return power > settings.TONE_SHARE_OF_ENERGY * energy * size / 2


class Recorder:
    """What one phone has heard: the files that baresip's sndfile module writes into a folder.

    A file holds only what was decoded: a lost packet is missing from it, not silence in it. So the
    share of a call is the windows heard, divided by the windows that the call had by the clock.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def ears_only(self, seconds=30):
        """For the coming seconds, keeps baresip from recording its own voice.

        The module records both directions. After a hold, baresip 1.0 takes up the recording again
        only if its own voice was never recorded, so a folder stands wherever that file would be.
        """
        now = int(time.time())
        for second in range(now - 1, now + seconds):
            stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.localtime(second))
            (self.folder / f"dump-{stamp}-enc.wav").mkdir(exist_ok=True)

    def mark(self):
        """Remembers how much has been recorded up to now."""
        return {path.name: path.stat().st_size for path in self.folder.glob("dump-*-dec.wav")}

    def grown(self, mark):
        """Has anything been recorded after `mark`?"""
        return any(size > max(mark.get(name, 0), WAV_HEADER_BYTES) for name, size in self.mark().items())

    def since(self, mark):
        """The samples recorded after `mark`."""
        heard = array.array("h")
        for path in sorted(self.folder.glob("dump-*-dec.wav")):
            data = path.read_bytes()[max(mark.get(path.name, 0), WAV_HEADER_BYTES):]
            heard.extend(struct.unpack(f"<{len(data) // 2}h", data[:len(data) // 2 * 2]))
        return heard


def windows_expected(seconds, late_s):
    """How many windows a call of this length has. What came late at its start is forgiven up to the allowance."""
    forgiven = min(max(late_s, 0.0), settings.START_ALLOWANCE_S)
    return max(1, math.floor((seconds - forgiven) / settings.WINDOW_S))


def share(recording, frequency, seconds, late_s):
    """The share of `seconds` of call in which the tone was heard, 0 to 1."""
    return min(1.0, windows_heard(recording, frequency) / windows_expected(seconds, late_s))
