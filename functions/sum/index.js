// The sum of all numbers in the input: {"a": 20, "b": 3} and {"numbers":
// [20, 3]} both give {"sum": 23}. What is no number, in whatever depth, is
// left out.
//
// `context` is the body, parsed; what `cb` is given is the answer. So it can
// be tried without a platform:
//
//     node -e 'require("./index.js")({ a: 20, b: 3 }, console.log)'

function add(value) {
  if (typeof value === "number") return value;
  if (typeof value !== "object" || value === null) return 0;
  // A sum begins with 0. One that begins with nothing is NaN for ever, and
  // JSON has no NaN: it would write null.
  let sum = 0;
  for (const part of Object.values(value)) sum += add(part);
  return sum;
}

module.exports = (context, cb) => cb({ sum: add(context) });
