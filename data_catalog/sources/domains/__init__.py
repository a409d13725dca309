"""What the synthetic source draws: one file per group of domains."""
