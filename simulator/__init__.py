"""An exchange as a separate process: Binance's REST for three markets, seeded books, faults on request, a truth log.

For the demo and for tests. Services never import it; they meet it over the network, as they meet the venue.
"""
