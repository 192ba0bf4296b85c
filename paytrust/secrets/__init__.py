"""
Secrets at rest: a data key for each tenant seals them, and a master key of the settings seals the data keys.
"""
