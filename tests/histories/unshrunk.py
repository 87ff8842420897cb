"""For `-p tests.histories.unshrunk`: a failing history is reported as it was found. Whether it fails is all that counts."""

from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("unshrunk")
