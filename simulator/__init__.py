"""An exchange as a separate process: Binance's REST and streams for three markets, seeded books, faults, a truth log.

For the demo and for tests. Services never import it; they meet it over the network, as they meet the venue.
"""
