"""Every metric, dimension, product, granularity and metric id of the reference, with unit and meaning.

They are here for completion, and restrict nothing: each member is its own wire value, and every method that takes one
takes any other `str` (or `int`, for a metric id) as well.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Self


class Metric(StrEnum):
    """A metric's wire name, with `unit` (empty: a count) and `meaning`."""

    unit: str
    meaning: str

    def __new__(cls, value: str, unit: str = "", meaning: str = "") -> Self:
        """Make a member of its wire name, unit and meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.unit = unit
        member.meaning = meaning
        return member


class UsageMetric(Metric):
    """Usage by time and aggregated (Data Insights)."""

    USER_COUNT = "userCount", "", "users across all channels, counted once per channel and user ID"
    SESSION_COUNT = "sessionCount", "", "times that any user joined any channel"
    CHANNEL_COUNT = "channelCount", "", "channels, counted once from first join to last leave"
    # The page has one pair of names in its list and the other in its note: accounts may know either.
    PEAK_CURRENT_CHANNELS = "peakCurrentChannels", "", "most channels in use at once"
    PEAK_CURRENT_USERS = "peakCurrentUsers", "", "most users in calls at once"
    PEAK_CONCURRENT_CHANNELS = "peakConcurrentChannels", "", "peakCurrentChannels by the name of newer editions"
    PEAK_CONCURRENT_USERS = "peakConcurrentUsers", "", "peakCurrentUsers by the name of newer editions"
    TOTAL_DURATION = "totalDuration", "min", "video and audio-only duration, summed over users"
    TOTAL_VIDEO_DURATION = "totalVideoDuration", "min", "video duration, summed over users"
    TOTAL_AUDIO_DURATION = "totalAudioDuration", "min", "audio-only duration, summed over users"


class QualityMetric(Metric):
    """Quality by time, aggregated (Data Insights) and in real time: fractions, 0.12 is 12 %."""

    JOIN_SUCCESS_RATE = "joinSuccessRate", "fraction", "joined / attempts to join"
    JOIN_SUCCESS_IN_5S_RATE = "joinSuccessIn5sRate", "fraction", "joined within 5 s / attempts to join"
    AUDIO_FREEZE_RATE = "audioFreezeRate", "fraction", "audio frozen over 200 ms / audio time, by streams"
    VIDEO_FREEZE_RATE = "videoFreezeRate", "fraction", "video frozen over 600 ms / video time, by streams"
    NETWORK_DELAY = "networkDelay", "fraction", "end-to-end delay over 400 ms / audio and video time, by streams"


class RealtimeUsageMetric(Metric):
    """Usage by 20-second windows (Real-time Monitoring)."""

    USER_COUNT = "userCount", "", "users across all channels in use, counted once per channel"
    CHANNEL_COUNT = "channelCount", "", "channels, counted once from first join to last leave"


class FreezeMetric(Metric):
    """Metrics of the statistics and freeze buckets of one call."""

    AUDIO = "audio_freeze_rate", "fraction", "audio frozen; native SDKs only"
    VIDEO = "video_freeze_rate", "fraction", "video frozen over 600 ms (native) or 500 ms (web)"


class TimelineMetric(Metric):
    """Metrics of one call over time."""

    USER_COUNT = "user_count", "", "participants; one in several channels counts several times"
    AUDIO_FREEZE_RATE = "audio_freeze_rate", "fraction", "audio frozen"
    VIDEO_FREEZE_RATE = "video_freeze_rate", "fraction", "video frozen"
    AUDIO_FREEZE_USER_COUNT = "audio_freeze_user_count", "", "participants with audio freezes"
    VIDEO_FREEZE_USER_COUNT = "video_freeze_user_count", "", "participants with video freezes"


class Dimension(StrEnum):
    """What rows can be grouped by; both spellings of network and SDK version occur."""

    COUNTRY = "country"
    REGION = "region"
    NET = "net"
    NETWORK = "network"
    SDK = "sdk"
    SDK_VERSION = "sdkVersion"
    OS = "os"
    DEVICE = "device"
    CHANNEL_SIZE = "channelSize"


class Product(StrEnum):
    """`productType`: the native SDKs (Android, iOS, macOS, Windows) or the one for the web."""

    NATIVE = "Native"
    WEBRTC = "WebRTC"


class Granularity(StrEnum):
    """`aggregateGranularity`; the minute is promised for quality by time, its literal is unverified."""

    DAY = "1d"
    HOUR = "1h"
    MINUTE = "1m"


FREEZE_BUCKETS = ("[0%,3%)", "[3%,5%)", "[5%,10%)", "[10%,100%)")
"""The buckets of a call's freeze rates, in order; an answer leaves out the empty ones."""


class MetricId(IntEnum):
    """`mid`: one measured quantity of a session, with `unit` (empty: none given) and `meaning`."""

    unit: str
    meaning: str

    def __new__(cls, value: int, unit: str = "", meaning: str = "") -> Self:
        """Make a member of its number, unit and meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.unit = unit
        member.meaning = meaning
        return member

    APP_CPU = 20001, "%", "App CPU usage"
    SYSTEM_CPU = 20002, "%", "System CPU usage"
    AUDIO_UP_BITRATE = 20003, "Kbps", "Upstream bitrate of the audio"
    AUDIO_DOWN_BITRATE = 20004, "Kbps", "Downstream bitrate of the audio"
    AUDIO_FREEZE_TIME = 20005, "ms", "Freeze time in rendering the audio"
    VIDEO_LOW_UP_BITRATE = 20006, "Kbps", "Upstream bitrate of the low-quality video stream"
    VIDEO_CAPTURE_FPS = 20007, "fps", "Capturing frame rate of the video"
    VIDEO_HIGH_UP_FPS = 20008, "fps", "Upstream frame rate of the high-quality video stream"
    VIDEO_HIGH_DOWN_BITRATE = 20009, "Kbps", "Downstream bitrate of the high-quality video"
    VIDEO_HIGH_DOWN_FPS = 20010, "fps", "Downstream frame rate of the high-quality video"
    VIDEO_FREEZE_TIME = 20011, "ms", "Freeze time in rendering the video"
    RETIRED_20013 = 20013, "", "Retired by the vendor; may still appear in older calls"
    AUDIO_UP_LOSS = 20015, "%", "Upstream packet loss rate of the audio"
    AUDIO_END_TO_END_LOSS = 20016, "%", "End-to-end packet loss rate of the audio"
    VIDEO_UP_LOSS = 20017, "%", "Upstream packet loss rate of the video"
    VIDEO_END_TO_END_LOSS = 20018, "%", "End-to-end packet loss rate of the video"
    VIDEO_RECEIVED_WIDTH = 20019, "px", "Width of the received video"
    VIDEO_RECEIVED_HEIGHT = 20020, "px", "Height of the received video"
    TASK_DELAY = 20021, "ms", "Task scheduling delay"
    ROUTER_RTT = 20022, "ms", "Round-trip time from the client to the local router"
    VIDEO_LOW_UP_FPS = 20023, "fps", "Upstream frame rate of the low-quality video stream"
    VIDEO_UP_BITRATE = 20024, "Kbps", "Upstream bitrate of the video stream"
    AUDIO_SENT_VOLUME = 20025, "dB", "Sampling volume of the sent audio"
    AUDIO_PLAYED_VOLUME = 20026, "dB", "Playback volume of the received audio"
    VIDEO_SENT_WIDTH = 20027, "px", "Width of the sent video"
    VIDEO_SENT_HEIGHT = 20028, "px", "Height of the sent video"
    VIDEO_LOW_DOWN_BITRATE = 20030, "Kbps", "Downstream bitrate of the low-quality video stream"
    VIDEO_LOW_DOWN_FPS = 20031, "fps", "Downstream frame rate of the low-quality video stream"
    VIDEO_LOW_RECEIVED_WIDTH = 20032, "px", "Width of the received low-quality video"
    VIDEO_LOW_RECEIVED_HEIGHT = 20033, "px", "Height of the received low-quality video"
    VIDEO_LOW_SENT_WIDTH = 20034, "px", "Width of the sent low-quality video"
    VIDEO_LOW_SENT_HEIGHT = 20035, "px", "Height of the sent low-quality video"
    WEB_VIDEO_DOWN_LOSS = 20036, "", "WebRTC downstream packet loss rate of the video; the page gives no unit"
    WEB_AUDIO_UP_LOSS = 20037, "", "WebRTC upstream packet loss rate of the audio; the page gives no unit"
    WEB_VIDEO_UP_LOSS = 20038, "", "WebRTC upstream packet loss rate of the video; the page gives no unit"
    APP_MEMORY = 20039, "%", "App memory usage"
    SYSTEM_MEMORY = 20040, "%", "System memory usage"

    @classmethod
    def name_of(cls, mid: int) -> str:
        """Name of a metric id in lower case, or the number as text where it is unknown."""
        try:
            return cls(mid).name.lower()
        except ValueError:
            return str(mid)
