"""A hub that answers from a folder, for tests that must not reach the real one."""

import shutil
from types import SimpleNamespace

from huggingface_hub import errors

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub with one model, that of `folder`; what is fetched goes to `store`."""

    def __init__(self, folder, store):
        self.folder, self.store, self.fetched = folder, store, []

    def info(self, _api, name, revision=None, timeout=None):
        names = [file.name for file in self.folder.iterdir()]
        return SimpleNamespace(sha=SHA, siblings=[SimpleNamespace(rfilename=name) for name in names])

    def snapshot(self, name, revision=None, allow_patterns=None, local_files_only=False):
        target = self.store / SHA
        if local_files_only and not target.is_dir():
            raise errors.LocalEntryNotFoundError("not in the cache")
        target.mkdir(exist_ok=True)
        for file in self.folder.iterdir():
            if (
                allow_patterns
                and any(file.match(pattern) for pattern in allow_patterns)
                and not (target / file.name).exists()
            ):
                self.fetched.append(file.name)
                shutil.copy(file, target)
        return str(target)
