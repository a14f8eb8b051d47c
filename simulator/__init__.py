"""Replays the life of a model on real devices: training, publishing, updating, recognising.

The simulator drives the real server (`ota-server serve`) and real edge clients (`ota-edge`) as
processes of their own; it measures what they did and writes a report. It holds no second
implementation of either. Rules: a run is a pure function of its scenario, corpus and seeds (up
to times and memory), and every table says whether its test speech was real.

    ota-sim run quickstart
    ota-sim run digits --corpus fsdd/ --out runs/digits
    ota-sim report runs/digits
"""
