// Shows the quantity that is chosen: its curves over training at one place along the slider's dimension, and, where
// there are two dimensions, their map at one step. `data` has for each quantity the values [step, at, over] in a row.
const all = JSON.parse(data)
const it = all.quantities[quantity.value]
const across = it.over.length, along = it.at.length
place.visible = chart.visible = moment.visible = along > 1
place.end = Math.max(1, along - 1)
const at = Math.min(place.value, along - 1)
place.format.args = {labels: it.at}
place.title = it.at_name
const number = (x) => x == null ? "-" : x.toPrecision(3)
const value = (of, step, at, over) => of[(step * along + at) * across + over]

const curves = {xs: [], ys: [], colour: []}
const bands = {xs: [], ys: [], colour: []}
const points = {x: [], y: [], label: [], colour: [], words: []}
const floor = it.positive ? 0.3 * Math.min(...it.mean.filter((x) => x != null)) : -Infinity
for (let over = 0; over < across; over++) {
  const colour = it.colours[over], label = it.curves[over], ys = [], low = [], high = [], there = []
  all.steps.forEach((step, i) => {
    const mean = value(it.mean, i, at, over), half = value(it.half, i, at, over)
    ys.push(mean ?? NaN)
    if (mean == null) return
    points.x.push(step)
    points.y.push(mean)
    points.label.push(label)
    points.colour.push(colour)
    points.words.push(half == null ? number(mean) : `${number(mean)} ± ${number(half)}`)
    if (half == null) return
    there.push(step)
    low.push(Math.max(mean - half, floor))
    high.push(mean + half)
  })
  curves.xs.push(all.steps)
  curves.ys.push(ys)
  curves.colour.push(colour)
  bands.xs.push([...there, ...there.slice().reverse()])
  bands.ys.push([...low, ...high.reverse()])
  bands.colour.push(colour)
}
// There are always as many curves and bands as there may be: what names or draws them points at one that is there.
const most = names.length / 2
for (let over = across; over < most; over++) {
  for (const each of [curves, bands]) {
    each.xs.push([])
    each.ys.push([])
    each.colour.push("black")
  }
}
names.forEach((name, i) => {
  name.label = {value: it.curves[i % most] ?? ""}
  name.visible = i % most < across
})
lines.data = curves
ribbons.data = bands
dots.data = points
log.visible = it.positive
linear.visible = !it.positive

if (along > 1) {
  const cells = {x: [], y: [], value: [], words: []}
  it.at.forEach((x, at) => it.over.forEach((y, over) => {
    const mean = value(it.mean, moment.value, at, over), half = value(it.half, moment.value, at, over)
    cells.x.push(x)
    cells.y.push(y)
    cells.value.push(mean ?? NaN)
    cells.words.push(half == null ? number(mean) : `${number(mean)} ± ${number(half)}`)
  }))
  chart.x_range.factors = it.at
  chart.y_range.factors = it.over
  chart.below[0].axis_label = it.at_name
  chart.left[0].axis_label = it.over_name
  const known = it.mean.filter((x) => x != null), top = Math.max(...known)
  const mapper = it.wide ? wide : even
  mapper.low = it.wide ? 1e-3 * top : Math.min(...known)
  mapper.high = top
  cell.fill_color = cell.line_color = {field: "value", transform: mapper}
  wide_bar.visible = it.wide
  even_bar.visible = !it.wide
  squares.data = cells
}
