/* What benchmarks/kernels.py counts per input: too slow in numpy for 2^32 of them. Compiled by it, with the system's compiler.
 *
 * An input is given by its 32 bits; a cell is the set of inputs that share the leading 11 (sign, exponent, two bits of mantissa).
 * References are the double functions of the C library, which err by less than 2 units in the last place (2^-51 relative). */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct { double absolute, relative, lowest, highest; int64_t inputs, outside, falls; } cell;

static float from_bits(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }

static double reference(int kernel, double x) {
    switch (kernel) {
    case 0: return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
    case 1: return tanh(x);
    case 2: return exp(x);
    case 3: return log(x);
    case 4: return sqrt(x);
    case 5: return erf(x);
    case 6: return sin(x);
    case 7: return cos(x);
    case 8: return 1 / x;
    case 9: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    case 10: return x * x;
    case 11: return x * x * x;
    case 12: return pow(x, 0.5);
    case 13: return pow(x, -0.5);
    default: return NAN;
    }
}

/* What the runtime does with the last, incomplete vector, where it differs from the body; kernels.py checks that it is this. */
static float tail(int kernel, float x) {
    switch (kernel) {
    case 3: return logf(x);
    case 6: return sinf(x);
    case 7: return cosf(x);
    case 9: return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
    case 11: return powf(x, 3.0f); /* a tensor of one element; others are multiplied */
    default: return NAN;
    }
}

void tails(int kernel, const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = tail(kernel, x[i]);
}

/* Inputs first, first + 1, ... (n of them) with results y (NULL: those of tail). `low`, `high`: the range of f. `slope`: +1 if f grows. */
void count(int kernel, uint32_t first, int64_t n, const float *y, double low, double high, int slope, cell *cells) {
    float before = NAN;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = first + (uint32_t)i;
        float x = from_bits(bits);
        if (!isfinite(x)) continue;
        double f = reference(kernel, x);
        if (!isfinite(f) || fabs(f) > 0x1p127) continue;
        float value = y ? y[i] : tail(kernel, x);
        cell *c = &cells[bits >> 21];
        double error = isfinite(value) ? fabs(value - f) : INFINITY;
        double relative = error == 0 ? 0 : error / fabs(f);
        if (c->inputs++ == 0) { c->lowest = c->highest = value; }
        if (error > c->absolute) c->absolute = error;
        if (relative > c->relative) c->relative = relative;
        if (value < c->lowest) c->lowest = value;
        if (value > c->highest) c->highest = value;
        c->outside += !(value >= low && value <= high);
        c->falls += slope && (x < 0 ? -slope : slope) * (value - before) < 0; /* bits grow with |x| */
        before = value;
    }
}
