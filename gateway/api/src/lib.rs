//! What is exchanged through a gateway: documents, their encryption, the wire and its client.
