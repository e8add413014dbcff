"""`firecrest://SYSTEM/PATH` for programs that use fsspec: pandas, pyarrow, Dask, `UPath`.

fsspec finds the file system by its entry point, without an import. Install it with the extra `crestline[fsspec]`.
"""

from crestline.fsspec.filesystem import FirecRESTFileSystem

__all__ = ["FirecRESTFileSystem"]
