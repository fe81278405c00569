"""deepisp: develop raw photographs with the DeepISP network."""

__version__ = "0.1.0"
