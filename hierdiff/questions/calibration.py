"""How often do the intervals hold the truth, and how often is a minimum claimed where there is none?"""
