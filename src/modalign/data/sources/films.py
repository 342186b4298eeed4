"""The sound of a film: for datasets that ask about both and publish one file."""

from __future__ import annotations

import io

import numpy as np


def film_sound(content: bytes) -> tuple[np.ndarray, int]:
    """All samples of a film's first sound track, [samples] or [samples, channels], and its rate in hertz.

    Raises ValueError where there is none or it does not decode.
    """
    import av

    try:
        with av.open(io.BytesIO(content), mode="r") as container:
            if not container.streams.audio:
                raise ValueError("the film has no sound")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
            frames = [frame for packet in container.decode(stream) for frame in resampler.resample(packet)]
    except (av.FFmpegError, EOFError) as error:
        raise ValueError("the film's sound does not decode") from error
    if not frames:
        raise ValueError("the film has no sound")
    wave = np.concatenate([frame.to_ndarray() for frame in frames], axis=1).T
    return np.ascontiguousarray(wave[:, 0] if wave.shape[1] == 1 else wave), int(stream.rate)
