"""The campaign: kills, signals, full disks, damaged files, absurd input, by the hundred, before every release.

`python -m tests.campaign --minutes 60` runs it; `tests/campaign/case.py` says what a case must hold.
"""
