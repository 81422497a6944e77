"""What the node says: raw logs, token balances and the market's own views, over JSON-RPC."""

import json
import urllib.request

from keccak import keccak256


class Node:
    """A JSON-RPC endpoint, asked at one block so that logs and balances belong together."""

    def __init__(self, url):
        self.url = url
        self.block = self._request("eth_blockNumber")

    def _request(self, method, *params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def logs(self, address):
        """Every log of `address`, oldest first."""
        query = {"address": address, "fromBlock": "0x0", "toBlock": self.block}
        found = self._request("eth_getLogs", query)
        return sorted(found, key=lambda log: (int(log["blockNumber"], 16), int(log["logIndex"], 16)))

    def view(self, contract, signature, *words):
        """The words that a view returns; arguments and results are 32-byte words."""
        data = keccak256(signature.encode())[:4] + b"".join(word(value) for value in words)
        call = {"to": contract, "data": "0x" + data.hex()}
        result = bytes.fromhex(self._request("eth_call", call, self.block)[2:])
        return [int.from_bytes(result[at:at + 32], "big") for at in range(0, len(result), 32)]

    def transaction_count(self, account):
        """How many transactions `account` has in the chain."""
        return int(self._request("eth_getTransactionCount", account, self.block), 16)


def word(value):
    """An ABI word of an integer, or of an address or hash in hexadecimal."""
    if isinstance(value, str):
        value = int(value, 16)
    return value.to_bytes(32, "big")
