"""The report: a static site that shows what was verified, and how; `pctheory report` builds it.

records       a verdict as a record of the ledger, and back
checks        the claims of a checkout and the code that checks them, read without importing it
mathml        LaTeX as MathML
graph         a picture of which claim rests on which
derivations   the proofs at every depth, step by step
pictures      the figures drawn, with what they were drawn from
site          the pages
"""
