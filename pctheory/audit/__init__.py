"""Planted errors: would the claims and the tests notice if the library were wrong?

catalogue     the faults, one line of the library each (`catalogue.toml`)
copies        checkouts with a fault in them
watch         claims in such a checkout, until one notices
run           all faults, each in processes of its own
"""
