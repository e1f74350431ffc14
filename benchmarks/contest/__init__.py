"""VNN-COMP at home: any number of verifiers on a benchmark folder of any year, scored by the competition's rules, compared and plotted."""
