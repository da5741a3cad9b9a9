"""Learn, and do, story-writing with fine-tuned language models. Nothing happens on import."""

__version__ = "0.3.0"
