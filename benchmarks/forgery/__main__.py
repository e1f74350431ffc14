"""make bench-forgery: python -m benchmarks.forgery [--out TABLE.csv] [--planted N] [--safe N] [--seconds S]"""

from benchmarks.forgery.campaign import main

raise SystemExit(main())
