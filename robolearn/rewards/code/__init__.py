"""Rewards written by a language model: as closed JSON parameters by default, as code only inside the sandbox."""
