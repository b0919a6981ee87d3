"""The rollout viewer: a run's groups of rollouts as pages in a browser on this machine, read and never changed."""
