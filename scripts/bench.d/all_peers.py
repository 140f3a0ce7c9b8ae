# SPDX-License-Identifier: MIT
"""All peers by name."""
from peers import Btrfs, Ext4, Moltfs, MoltfsHalting, Passthrough, Raw
from peers_user import Fuse2fs, Qemu, ZfsFuse

PEERS = {peer.name: peer for peer in
         (Moltfs, MoltfsHalting, Btrfs, Ext4, Passthrough, Fuse2fs, ZfsFuse, Qemu, Raw)}
QUICK_PEERS = ("moltfs", "btrfs", "passthrough", "raw")


def make_peer(word, context):
    """`moltfs@DIR` is moltfs as built in DIR, to compare two builds with each other."""
    name, _, programs = word.partition("@")
    if name == "moltfs" and programs:
        return Moltfs(context, programs, word)
    if name not in PEERS:
        raise SystemExit(f"bench: no peer '{name}'; there are {', '.join(PEERS)}")
    return PEERS[name](context)
