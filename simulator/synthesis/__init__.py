"""Synthetic speech: corpora that anyone can make again, bit for bit, from a seed.

espeak-ng keeps hidden state between calls: the same call twice in one process gives two
waveforms. So every speaker is spoken by one fresh process (`worker`), phrases in sorted
order; then neither the number of workers nor their order changes a sample. The engine is
GPLv3 and optional: `worker` alone imports it, and only ever runs in a process of its own.

    speakers   who speaks: voice, accent, rate and pitch, drawn from a seed
    phrases    what spoken commands are: lists of phrases, the same for all speakers
    sentences  what speech recognition hears: sentences of each speaker's own, from a grammar
    worker     the process that speaks (JSON in, samples out)
    room       noise floor, level and reverberation
    corpus     a corpus folder out of these

Synthetic speech is not real speech: a corpus made here says so in corpus.json, and every
table made from it repeats that.
"""
