"""Generations: their lineage, pools, lessons, weights and policies."""
