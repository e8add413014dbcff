"""What runs inside the job. `main` needs Python 3.9 alone; `program` packs it with the relay's agent."""
