"""The C header and the example that go with a CPU library."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from familyseer.kernels._cpu import SUPPORTED
from familyseer.kernels._manifest import Argument

HEADER = "kernels.h"
EXAMPLE = "example.c"
NULL_ARGUMENT = 1

# C has no portable types of 16-bit floating-point numbers
_C_TYPES = {
    "float64": "double",
    "float32": "float",
    "float16": "uint16_t",
    "bfloat16": "uint16_t",
    "bool": "uint8_t",
}

_HEADER = Template(
    r"""/* Tuned kernels for $arch. Link with -lkernels.
 *
 * Arrays are row-major and without gaps, of the extents noted beside them. float16 and bfloat16 are
 * passed as their bits. Outputs may not overlap any other array. A function returns 0 when it is
 * done, $null for a NULL argument, and another number when memory ran out. It uses several threads,
 * FS_NUM_THREADS of the environment or as many as it was tuned with, and may be called from several
 * at a time.
 */
#ifndef FAMILYSEER_KERNELS_H
#define FAMILYSEER_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define FS_RESTRICT
#else
#define FS_RESTRICT restrict
#endif

/* Whether this processor has the instructions that the kernels use; call nothing else if not. */
int $supported(void);

$functions
#ifdef __cplusplus
}
#endif

#endif
"""
)

_EXAMPLE = Template(
    r"""/* Runs $symbol on arrays from files of raw numbers.
 *
 *   cc example.c -L. -lkernels -Wl,-rpath,'$$ORIGIN' -o example
 *   ./example$usage
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

static void *allocate(size_t bytes) {
  void *array = malloc(bytes > 0 ? bytes : 1);
  if (array == NULL) {
    fputs("out of memory\n", stderr);
    exit(EXIT_FAILURE);
  }
  return array;
}

static void transfer(const char *path, void *array, size_t least, size_t most, int writing) {
  FILE *file = fopen(path, writing ? "wb" : "rb");
  int failed = file == NULL;
  if (!failed) {
    const size_t done = writing ? fwrite(array, 1, most, file) : fread(array, 1, most, file);
    failed = fclose(file) != 0 || done < least;
  }
  if (failed) {
    fprintf(stderr, "%s: expected %zu bytes\n", path, most);
    exit(EXIT_FAILURE);
  }
}

int main(int argc, char **argv) {
  if (argc != 1 + $count) {
    fprintf(stderr, "usage: %s$usage\n", argv[0]);
    return EXIT_FAILURE;
  }
  if (!$supported()) {
    fputs("this processor lacks instructions that the kernels use\n", stderr);
    return EXIT_FAILURE;
  }
$allocations
$reads
  const int code = $symbol($names);
  if (code != 0) {
    fprintf(stderr, "$symbol failed with code %d\n", code);
    return EXIT_FAILURE;
  }
$writes
$frees
  return EXIT_SUCCESS;
}
"""
)


def c_type(dtype: str) -> str:
    """The C type of an element."""
    return _C_TYPES.get(dtype, f"{dtype}_t")


def declaration(symbol: str, arguments: Sequence[Argument], restrict: str = "restrict") -> str:
    """The head of an exported function."""
    listed = ", ".join(
        f"{'' if argument.output else 'const '}{c_type(argument.dtype)} *{restrict} {argument.name}"
        for argument in arguments
    )
    return f"int {symbol}({listed})"


def described(arguments: Sequence[Argument]) -> str:
    """Extents and element types of a function's arguments, for a comment."""
    return "".join(
        f"\n *   {argument.name}: {argument.dtype} [{', '.join(map(str, argument.shape))}]"
        f"{', or shorter' if argument.fewer else ''}{', output' if argument.output else ''}"
        for argument in arguments
    )


def header(kernels: Sequence[tuple[str, Sequence[Argument]]], arch: str) -> str:
    """``kernels.h`` of a CPU library.

    Parameters
    ----------
    kernels
        Symbol and arguments of each.
    """
    functions = "".join(
        f"/* {symbol}{described(arguments)}\n */\n"
        f"{declaration(symbol, arguments, 'FS_RESTRICT')};\n\n"
        for symbol, arguments in kernels
    )
    return _HEADER.substitute(
        arch=arch, null=NULL_ARGUMENT, supported=SUPPORTED, functions=functions
    )


def example(symbol: str, arguments: Sequence[Argument]) -> str:
    """``example.c`` of a CPU library: one kernel on arrays from files."""

    def lines(of: Sequence[str]) -> str:
        return "\n".join(f"  {one}" for one in of)

    def transfers(output: bool) -> str:
        return lines(
            [
                f"transfer(argv[{place}], {one.name}, {0 if one.fewer else one.nbytes}, "
                f"{one.nbytes}, {int(output)});"
                for place, one in enumerate(arguments, 1)
                if one.output is output
            ]
        )

    return _EXAMPLE.substitute(
        symbol=symbol,
        supported=SUPPORTED,
        count=len(arguments),
        usage="".join(f" {one.name}.bin" for one in arguments),
        names=", ".join(one.name for one in arguments),
        allocations=lines(
            [f"{c_type(one.dtype)} *{one.name} = allocate({one.nbytes});" for one in arguments]
        ),
        reads=transfers(False),
        writes=transfers(True),
        frees=lines([f"free({one.name});" for one in arguments]),
    )
