"""From requests to stored rows: plan, journal, runner, and what is written down about a run."""
