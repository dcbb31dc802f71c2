/* All of the arithmetic for one instruction set: ISA is its name, FMA whether it has fused multiply-add. */

#define ON_(name, isa) name##_##isa
#define ON__(name, isa) ON_(name, isa)
#define ON(name) ON__(name, ISA)
#define AT(field) state[(field) * width + column]

#include "elementary.h"
#include "state.h"

#define T float
#define U uint32_t
#define OF(name) ON(name##_float)
#define FMA_T FMA32
#define ANCHOR ANCHOR32
#define FAR 256.0
#define ROOM 40.0
#define ONE 0x1p40f
#include "rows.h"
#undef T
#undef U
#undef OF
#undef FMA_T
#undef ANCHOR
#undef FAR
#undef ROOM
#undef ONE

#define T double
#define U uint64_t
#define OF(name) ON(name##_double)
#define FMA_T FMA64
#define ANCHOR ANCHOR64
#define FAR 2048.0
#define ROOM 64.0
#define ONE 0x1p64
#include "rows.h"
#undef T
#undef U
#undef OF
#undef FMA_T
#undef ANCHOR
#undef FAR
#undef ROOM
#undef ONE

static const Kernels ON(kernels)[2] = {
    {ON(sum_float), ON(finish_float), ON(each_float), ON(merge_float)},
    {ON(sum_double), ON(finish_double), ON(each_double), ON(merge_double)},
};

#undef ON
#undef ON_
#undef ON__
#undef AT
#undef ISA
#undef FMA
#undef FMA32
#undef FMA64
