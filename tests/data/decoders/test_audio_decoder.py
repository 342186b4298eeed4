"""Log-mel spectrograms: Kaldi's numbers, resampling that keeps tones, padding, crops and masks."""

import numpy as np
import pytest
import torch

from modalign.data.decoders.audio import SpectrogramDecoder, log_mel, mel_bank, read_sound, resample


def test_log_mel_is_what_transformers_computes_in_kaldis_way():
    """An implementation of Kaldi's filter bank by other people; float64 there, float32 here."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    wave = np.random.default_rng(0).normal(size=16000) * 0.1
    filters = mel_filter_bank(257, 64, 20, 8000, 16000, mel_scale="kaldi", triangularize_in_mel_space=True)
    expected = spectrogram(
        wave, window_function(400, "hann", periodic=False), frame_length=400, hop_length=160, fft_length=512, power=2.0,
        center=False, preemphasis=0.97, mel_filters=filters, log_mel="log", mel_floor=2**-23, remove_dc_offset=True,
    )  # fmt: skip
    ours = log_mel(wave.astype(np.float32), 16000, 64, 400, 160, 20.0)
    assert ours.shape == expected.shape == (64, 98)
    assert np.abs(ours - expected).max() < 1e-3


@pytest.mark.parametrize("hz", [300, 1000, 3000])
def test_a_tone_lights_its_own_band(sound_file, hz):
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(16000) / 16000)
    value = SpectrogramDecoder(16000, 64, 98, mean=0, std=1)(sound_file(wave, 16000))
    band = int(value[0].mean(dim=1).argmax())
    first, weights = mel_bank(16000, 64, 512, 20.0)[band]
    assert first <= round(hz * 512 / 16000) < first + len(weights)


def sine(hz, rate_hz):
    return np.sin(2 * np.pi * hz * np.arange(rate_hz) / rate_hz).astype(np.float32)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(44100, 16000), (8000, 16000), (48000, 16000), (22050, 8000), (16001, 16000)]
)
def test_resampling_keeps_a_tone_and_its_length(from_hz, to_hz):
    resampled = resample(sine(440, from_hz), from_hz, to_hz)
    assert len(resampled) == to_hz
    assert np.abs(resampled - sine(440, to_hz))[200:-200].max() < 1e-3


def test_resampling_removes_what_the_lower_rate_cannot_hold():
    assert np.abs(resample(sine(6000, 44100), 44100, 8000))[200:-200].max() < 2e-3


def test_the_number_of_threads_changes_no_bit(sound_file):
    """A worker has one thread and the main process several: a sample must be the same in both."""
    data = sound_file(np.random.default_rng(0).normal(size=66150) * 0.1, 22050)
    decoder, threads = SpectrogramDecoder(16000, 80, 290), torch.get_num_threads()
    values = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        values.append(decoder(data))
    torch.set_num_threads(threads)
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


def test_channels_are_averaged(sound_file):
    wave = np.random.default_rng(0).normal(size=(2000, 2)) * 0.1
    mono, rate_hz = read_sound(sound_file(wave, 8000, "WAV"))
    assert rate_hz == 8000
    assert np.abs(mono - wave.mean(axis=1)).max() < 1e-4


def test_short_sounds_are_padded_and_long_ones_cut(sound_file):
    wave = np.random.default_rng(0).normal(size=16000) * 0.1
    data = sound_file(wave, 16000)
    whole = SpectrogramDecoder(16000, 40, 98, mean=-4, std=2)(data)
    padded = SpectrogramDecoder(16000, 40, 130, mean=-4, std=2)(data)
    assert torch.equal(padded[..., :98], whole)
    assert torch.equal(padded[..., 98:], torch.full((1, 40, 32), 2.0))
    assert torch.equal(SpectrogramDecoder(16000, 40, 50, mean=-4, std=2)(data), whole[..., :50])
    random = SpectrogramDecoder(16000, 40, 50, mean=-4, std=2, random_crop=True)
    starts = [random(data, np.random.default_rng(seed)) for seed in range(5)]
    assert len({start.numpy().tobytes() for start in starts}) > 2


def test_masks_blank_one_band_and_one_stretch_in_training_alone(sound_file):
    data = sound_file(np.random.default_rng(0).normal(size=16000) * 0.1, 16000)
    masked = SpectrogramDecoder(16000, 40, 98, mask_mels=10, mask_frames=20)
    plain = SpectrogramDecoder(16000, 40, 98)(data)
    assert torch.equal(masked(data), plain)
    zero = (torch.tensor(0.0) + 4.2677393) / 9.1379948  # as padding: masked first, standardised then (released OneLLM)
    blank = [int((masked(data, np.random.default_rng(seed)) == zero).sum()) for seed in range(10)]
    assert int((plain == zero).sum()) == 0
    assert max(blank) > 200
    assert max(blank) <= 10 * 98 + 20 * 40


def test_sounds_shorter_than_a_window_are_refused(sound_file):
    with pytest.raises(ValueError, match="100 samples at 16000 Hz are less than one window of 400"):
        SpectrogramDecoder()(sound_file(np.zeros(100), 16000))
