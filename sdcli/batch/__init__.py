"""Batch: many pictures from one job file, journalled, resumed, spread over machines, compared and reported."""
