"""Pages to look at: experiments, generations, tasks, traces, SQL, and a run at work."""
