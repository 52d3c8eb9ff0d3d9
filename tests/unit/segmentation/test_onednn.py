"""Who decides whether TensorFlow computes by oneDNN."""

from __future__ import annotations

import os
import sys

import pytest

from nanostream.segmentation.engines.onednn import prefer_onednn

SWITCH = "TF_ENABLE_ONEDNN_OPTS"


@pytest.fixture
def before_tensorflow(monkeypatch):
    monkeypatch.setenv(SWITCH, "0")  # for what was there to come back after the test
    monkeypatch.delenv(SWITCH)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    return monkeypatch


def test_before_tensorflow_is_there_onednn_is_asked_for(before_tensorflow):
    assert prefer_onednn()
    assert os.environ[SWITCH] == "1"


def test_what_the_operator_chose_stays(before_tensorflow):
    before_tensorflow.setenv(SWITCH, "0")
    assert not prefer_onednn()
    assert os.environ[SWITCH] == "0"


def test_when_tensorflow_has_looked_already_nothing_is_claimed(before_tensorflow):
    before_tensorflow.setitem(sys.modules, "tensorflow", sys)
    assert not prefer_onednn()
    assert SWITCH not in os.environ
