# Writes down what dnf has worked out, before it asks. One thing in each line:
#   new|to|from|gone NAME VERSION BYTES-TO-DOWNLOAD BYTES-INSTALLED
#   kept NAME
#   end
import os

import dnf
import dnf.transaction as kinds

WORDS = {
    kinds.PKG_INSTALL: "new",
    kinds.PKG_OBSOLETE: "new",
    kinds.PKG_UPGRADE: "to",
    kinds.PKG_DOWNGRADE: "to",
    kinds.PKG_REINSTALL: "to",
    kinds.PKG_UPGRADED: "from",
    kinds.PKG_DOWNGRADED: "from",
    kinds.PKG_REINSTALLED: "from",
    kinds.PKG_OBSOLETED: "gone",
    kinds.PKG_ERASE: "gone",
}


class Lifeboat(dnf.Plugin):
    name = "lifeboat"

    def resolved(self):
        own = ("noarch", self.base.conf.substitutions["basearch"])

        def name(package):
            more = "" if package.arch in own else ":" + package.arch
            return package.name + more

        changed = set()
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "transaction")
        with open(path, "w") as out:
            for item in self.base.transaction or ():
                word = WORDS.get(item.action)
                if word is not None:
                    p = item.pkg
                    changed.add(name(p))
                    # What is in a file here is not downloaded.
                    size = 0 if word in ("from", "gone") or p._is_local_pkg() else p.downloadsize
                    print(word, name(p), p.evr, size, p.installsize, file=out)
            for package in self.base.sack.query().upgrades().latest():
                if name(package) not in changed:
                    print("kept", name(package), file=out)
            print("end", file=out)
