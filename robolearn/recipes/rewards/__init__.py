"""Reward models at work: train them, label datasets with them, audit them."""
