"""How the weights are judged: tasks, engines, metrics."""
