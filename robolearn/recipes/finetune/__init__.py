"""Reset-free fine-tuning: a policy practises a task and the one that undoes it, in turn, with nobody resetting.

RoboFuME (Yang et al. 2023) with what SERL, WSRL, RLIF and KAGI add. `recipe.py` is the whole run, `supervisor.py` who
does what next, `collector.py` and `learner.py` the two that work side by side.
"""
