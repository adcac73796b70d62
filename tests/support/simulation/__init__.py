"""Whole daemons by the dozen in one process, on one loop whose clock jumps to whatever comes next.

Everything between the doors is what production runs: registry, exchange, turns, rotation, probing. Behind the
doors are a kernel and a store in memory, and a network that knows places, delays, losses and cuts.
"""
