"""Statistics of scores: pure functions over arrays of question scores, without files or configuration.

Only numpy and scipy.special are imported, and those where they are used: scipy.stats and statsmodels take
seconds. The tests hold every function equal to statsmodels, scipy.stats or a published example.
"""
