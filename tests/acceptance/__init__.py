"""Tests of a whole stack: four real processes, driven over HTTP as an app would."""
