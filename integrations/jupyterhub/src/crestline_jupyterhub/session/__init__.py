"""What runs inside the job: `main`, with `notice` and `token`, needs Python 3.9 alone; `program` packs it."""
