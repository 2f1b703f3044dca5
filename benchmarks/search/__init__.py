"""Search strategies compared on recorded learning-rate × epoch tables; nothing is trained.

A table's true scores are the means over its seeds. A search sees the scores of one seed and selects the best cell that
it has seen. Its simple regret is the best true score minus the true score of the selected cell. A selection is tied
with the best where its regret is at most one standard error, √(p(1-p)/n) for n dev examples (the one-standard-error
rule: Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984).
"""
