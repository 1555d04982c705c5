"""Decoders that are fed packets by hand: which codecs can be, and how."""

from __future__ import annotations

from typing import Any

from dataengine.core.errors import BadRecording
from dataengine.video.container import MAX_PIXELS, silence

# Codecs that need nothing but `extradata` and the payload, and FFmpeg's decoder for each where it has another name.
DECODERS: dict[str, str] = {
    "h264": "h264",
    "hevc": "hevc",
    "av1": "libdav1d",
    "vp8": "vp8",
    "vp9": "vp9",
    "mpeg4": "mpeg4",
    "mjpeg": "mjpeg",
    "ffv1": "ffv1",
    "png": "png",
}


def decoder_for(codec: str, extradata: bytes, width: int = 0, height: int = 0) -> Any:
    """Return a PyAV decoder of one thread; raises BadRecording for a codec that this FFmpeg cannot decode."""
    import av

    silence()
    try:
        decoder = av.CodecContext.create(DECODERS.get(codec, codec), "r")
    except (av.FFmpegError, ValueError) as error:
        raise BadRecording("video", f"one of the codecs {', '.join(DECODERS)}", codec, "convert it", check="unknown_codec") from error
    if extradata:
        decoder.extradata = extradata
    if width and height:
        decoder.width, decoder.height = width, height
    # One thread: a job runs one process a core, and frame threads would delay the output.
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    return decoder


def padded_packet(payload: bytes | memoryview, pts: int) -> Any:
    """Return a packet for a decoder, of a copy of `payload` that FFmpeg may read past the end of.

    FFmpeg's bit readers look up to 64 bytes beyond a packet and need zeros there; `av.Packet(payload)` would hand over the bytes as they lie in memory, and
    the decoder would now and then take what follows for picture data.
    """
    import av

    packet = av.Packet(len(payload))
    if len(payload):
        packet.update(payload)
    packet.pts = pts
    return packet
